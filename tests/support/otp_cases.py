"""The 36 cases of OTP: restart type x strategy x kind of exit of the second of three children.

Each row says what happens then: which siblings stop, in order, and which children start, in order.
Written out by hand, so that no code of ours computes what is expected of it.
"""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """Child `b` of `a b c` ends as `ending` says; then `stops` are stopped and `starts` are started."""

    restart: str
    strategy: str
    ending: str
    stops: str
    starts: str


TABLE = """
permanent one_for_one   normal   -   b
permanent one_for_one   failed   -   b
permanent one_for_one   killed   -   b
permanent one_for_one   ordered  -   b
permanent one_for_all   normal   ca  abc
permanent one_for_all   failed   ca  abc
permanent one_for_all   killed   ca  abc
permanent one_for_all   ordered  ca  abc
permanent rest_for_one  normal   c   bc
permanent rest_for_one  failed   c   bc
permanent rest_for_one  killed   c   bc
permanent rest_for_one  ordered  c   bc
transient one_for_one   normal   -   -
transient one_for_one   failed   -   b
transient one_for_one   killed   -   b
transient one_for_one   ordered  -   -
transient one_for_all   normal   -   -
transient one_for_all   failed   ca  abc
transient one_for_all   killed   ca  abc
transient one_for_all   ordered  -   -
transient rest_for_one  normal   -   -
transient rest_for_one  failed   c   bc
transient rest_for_one  killed   c   bc
transient rest_for_one  ordered  -   -
temporary one_for_one   normal   -   -
temporary one_for_one   failed   -   -
temporary one_for_one   killed   -   -
temporary one_for_one   ordered  -   -
temporary one_for_all   normal   -   -
temporary one_for_all   failed   -   -
temporary one_for_all   killed   -   -
temporary one_for_all   ordered  -   -
temporary rest_for_one  normal   -   -
temporary rest_for_one  failed   -   -
temporary rest_for_one  killed   -   -
temporary rest_for_one  ordered  -   -
"""

CASES = [
    Case(*(field.replace("-", "") if field == "-" else field for field in line.split()))
    for line in TABLE.strip().splitlines()
]
assert len(set(CASES)) == 36
