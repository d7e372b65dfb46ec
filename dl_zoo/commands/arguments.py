"""argparse whose errors are one line, like all of ours."""

import argparse
import os
import sys
from typing import NoReturn

from dl_zoo.errors import UserError


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def add_config_dir(parser: Parser) -> None:
    parser.add_argument("-cd", "--config-dir", action="append", default=[], help="a folder with YAMLs of your own")


def add_trust(parser: Parser) -> None:
    parser.add_argument("--trust", action="append", default=[], help="a Python module of your own that YAMLs may name")


def obey_trust(modules: list[str]) -> None:
    """Trust the modules that were typed; those of one's own lie where one stands."""
    if modules:
        from dl_zoo.trust import trust

        trust(*modules)
        sys.path.insert(0, os.getcwd())
