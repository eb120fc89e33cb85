"""Hostile command lines about event recordings, as those in `hostile_cases`."""

EVENTS = """
--dataset CIFAR10DVS --model vgg.vgg11_if --path dvs/recording | cifar10_dog_0.aedat; truncated
--dataset CIFAR10DVS --model vgg.vgg11_if --path dvs/pipe | cifar10_dog_0.aedat; regular
--dataset CIFAR10DVS --model vgg.vgg11_if --path dvs/few | --path; 90 %
--dataset CIFAR10DVS --model vgg.vgg11_if --path dvs/zip | airplane.zip; md5
--dataset CIFAR10DVS --model vgg.vgg11_if --path dvs/bomb | airplane.zip; md5
--dataset CIFAR10DVS --model vgg.vgg11_if --path dvs/nowhere/deep | dvs/nowhere/deep
--dataset CIFAR10DVS --model vgg.vgg11_if --path file | file
--dataset CIFAR10DVS --model vgg.vgg11_if --path link | link
--dataset NMNIST | --model; channels
--dataset nmnist | --dataset nmnist; did you mean NMNIST
--dataset NMNIST --model vgg.vgg11_if --path dvs/nowhere | Train.zip; Test.zip; n-mnist
--dataset NMNIST --model vgg.vgg11_if --path dvs/n-mnist | 00001.bin; truncated
--dataset NMNIST --model vgg.vgg11_if --path dvs/n-mnist-empty | --path; Test/
--dataset NCaltech101 --model vgg.vgg11_if --path dvs/nowhere | Caltech101.zip; by hand
--dataset NCaltech101 --model vgg.vgg11_if --path dvs/n-caltech | Caltech101.zip; md5
--dataset NCaltech101 --model vgg.vgg11_if --path dvs/n-caltech-pipe | image_0001.bin; regular
--dataset DVS128Gesture --model vgg.vgg11_if --path dvs/nowhere | DvsGesture.tar.gz; by hand; ibm
--dataset DVS128Gesture --model vgg.vgg11_if --path dvs/gesture-archive | DvsGesture.tar.gz; md5
--dataset DVS128Gesture --model vgg.vgg11_if --path dvs/gesture-empty | trials_to_train.txt
--dataset DVS128Gesture --model vgg.vgg11_if --path dvs/gesture-pipe | trials_to_train.txt; regular
--dataset DVS128Gesture --model vgg.vgg11_if --path dvs/gesture-path | trials_to_train.txt; line 1
--dataset DVS128Gesture --model vgg.vgg11_if --path dvs/gesture-labels | user01_led_labels.csv; line
--dataset DVS128Gesture --model vgg.vgg11_if --path dvs/gesture-none | user01_led.aedat; no events
"""

SHOW_EVENTS = """
| FILE
nowhere.aedat | nowhere.aedat
events | events; not a regular file
/dev/zero | /dev/zero; not a regular file
/dev/null | /dev/null; not a regular file
{long} | File name too long
events/pipe.aedat | pipe.aedat; not a regular file
events/dangling.aedat | dangling.aedat
events/sparse.aedat | sparse.aedat; more than
events/empty.aedat | empty.aedat; empty
events/text.aedat | text.aedat; AEDAT
events/png.aedat | png.aedat; AEDAT
events/version1.aedat | version1.aedat; AEDAT 1.0
events/version3.aedat | version3.aedat; AEDAT 3.1
events/damaged3.aedat | damaged3.aedat; damaged AEDAT 3.1
events/truncated.bin | truncated.bin; truncated
events/row.bin | row.bin; row 200
events/empty.bin | empty.bin; empty
events/version99.aedat | version99.aedat
events/camera.aedat | camera.aedat; DAVIS
events/truncated.aedat | truncated.aedat
events/header.aedat | header.aedat; no events
events/unfinished.aedat | unfinished.aedat; no events
events/few.aedat | few.aedat; 3 events
events/backwards.aedat --split-by time | backwards.aedat; backwards
events/aedat4.aedat | aedat4.aedat
events/aedat4-garbage.aedat | aedat4-garbage.aedat
events/good.aedat --timesteps 0 | --timesteps
events/good.aedat --timesteps 51 | 50 events
events/good.aedat --timesteps {digits} | --timesteps
events/good.aedat --split-by size | --split-by
events/good.aedat --out folder | --out folder
events/good.aedat --out picture.xyz | --out picture.xyz
events/good.aedat --out nowhere/picture.png | nowhere/picture.png
events/good.aedat --out /dev/null | --out /dev/null
events/good.aedat --out pipe | --out pipe
events/good.aedat --out {long}.png | File name too long
events/good.aedat --gif picture.png | --gif picture.png
events/good.aedat --gif folder | --gif folder
"""

SAMPLE_DATA = """
| dvs
pictures | pictures
dvs --path file | file
dvs --path pipe | pipe
dvs --path link | link
dvs --path dvs/few | dvs/few
dvs --path dvs/cache | dvs/cache
dvs --path {long} | File name too long
dvs --path new --dataset cifar10 | --dataset
dvs --path new --recordings 19 | --recordings
dvs --path new --recordings 1798 | --recordings
dvs --path new --seed -1 | --seed
dvs --path new -j -1 | --workers
dvs --path new -j {digits} | --workers
imagefolder --path file | file
imagefolder --path folder | folder
imagefolder --path link | link
imagefolder --path file/deeper | file/deeper
imagefolder --path {long} | File name too long
"""
