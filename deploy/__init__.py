"""Run exported folders: card, engines, predictor and benchmark report; `export` writes the folders."""

from common.own_packages import check_own_packages

check_own_packages()  # before the first import of `datasets`, which is also the name of another library
