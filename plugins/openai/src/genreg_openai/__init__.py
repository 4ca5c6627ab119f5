"""What genreg's remote families share: keys, endpoints, the retry policy, the journal, the budget, the pool.

Importing this imports nothing of ``openai``; what calls it, does.
"""

from genreg_openai.budget import Budget
from genreg_openai.calls import Answer, Call, Connect, Failure, Request, key_of
from genreg_openai.endpoint import Endpoint, client, endpoint
from genreg_openai.journal import Journal, totals
from genreg_openai.limits import Throttle
from genreg_openai.policy import judged
from genreg_openai.pool import Pool
from genreg_openai.prices import Prices

__all__ = [
    "Answer",
    "Budget",
    "Call",
    "Connect",
    "Endpoint",
    "Failure",
    "Journal",
    "Pool",
    "Prices",
    "Request",
    "Throttle",
    "client",
    "endpoint",
    "judged",
    "key_of",
    "totals",
]
