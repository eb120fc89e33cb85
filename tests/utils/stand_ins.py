"""Small stand-ins for a network and a data set, for tests of what drives them."""

import torch
from torch import nn


class Net(nn.Module):
    """Two linear layers around a BatchNorm and dropout, scaled by a threshold."""

    def __init__(self, norm=True, dropout=0.5):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(6, 3)
        self.Vth = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return self.last(self.dropout(self.norm(self.first(x)).relu())) * self.Vth


class Loader:
    """Batches of a fixed random data set; which ones depends on the epoch alone."""

    def __init__(self, sizes=(4, 4, 3), start=0, scale=1.0):
        self.sizes, self.start, self.scale = sizes, start, scale
        self.num_samples, self.waited, self.epoch = sum(sizes), 0.0, 0

    def __len__(self):
        return len(self.sizes)

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        for index, size in enumerate(self.sizes):
            generator = torch.Generator().manual_seed(1000 * self.epoch + self.start + index)
            x = torch.randn(size, 4, generator=generator)
            yield x * self.scale, x.argmax(dim=1).clamp(max=2)
