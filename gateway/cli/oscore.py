"""``smartema oscore``: keys for CoAP between EMAs and their EMS."""

from __future__ import annotations

import argparse
from pathlib import Path

from gateway.errors import OperatorError
from gateway.transport.oscore_files import make_pair

EMAS = range(1, 100_000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    make = actions.add_parser("make", help="make the two contexts of each EMA: DIR/ema-N for it, DIR/ems/ema-N")
    make.add_argument("folder", metavar="DIR", help="where they are made")
    make.add_argument("--ema", type=int, required=True, action="append", metavar="N", help="an EMA; may come again")


def run(args: argparse.Namespace) -> int:
    folder = Path(args.folder)
    for number in args.ema:
        if number not in EMAS:
            raise OperatorError(f"--ema {number}: is no number of an EMA ({EMAS[0]} to {EMAS[-1]})")
        ema, ems = folder / f"ema-{number}", folder / "ems" / f"ema-{number}"
        make_pair(ema, ems, number)
        print(f"EMA {number}: move {ema} to it, for oscore_dir of its [[upstream]]")
    print(f"EMS: --oscore-dir {folder / 'ems'}")
    return 0
