"""Train any combination: `python train.py model=lenet5 data=mnist optimizer=sgd`, the same as `dl-zoo train ...`."""

from dl_zoo.__main__ import main

if __name__ == "__main__":
    main("train")
