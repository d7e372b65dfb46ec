"""argparse whose errors are one line, like all of ours."""

import argparse
from typing import NoReturn

from dl_zoo.errors import UserError


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")
