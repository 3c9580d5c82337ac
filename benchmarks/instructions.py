"""placeholder"""


def check(*, record: bool) -> int:
    return 0
