"""Put a finished run's best weights into weights/, where weights=zoo finds them.

    python benchmarks/publish_weights.py RUN <model>-<data> --licence TEXT

Beside the file lies a JSON card: model, arguments, classes, normalisation, test metrics, command, seed, commit, digest.
"""

import argparse

from dl_zoo import checkpoints


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a finished run")
    parser.add_argument("name", help="<model>-<data>, as weights=zoo:<name> will say it")
    parser.add_argument("--licence", required=True, help="of the data that it was trained on")
    args = parser.parse_args()
    print(checkpoints.publish(args.run, args.name, args.licence))


if __name__ == "__main__":
    main()
