"""Measure a trained run again: `python evaluate.py runs/lenet5-digits/<stamp>`, the same as `dl-zoo evaluate ...`."""

from dl_zoo.__main__ import main

if __name__ == "__main__":
    main("evaluate")
