"""The curves of a run, read by TensorBoard's own reader."""


def read_curves(folder):
    """Return the steps and values of each curve in `folder`."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder))
    reader.Reload()
    return {
        name: [(entry.step, entry.value) for entry in reader.Scalars(name)]
        for name in reader.Tags()["scalars"]
    }
