"""The state graph in words: where sequences start, where each state leads, and what it emits."""

from __future__ import annotations

from genreg.draft import Array
from genreg_hmm.config import Config, Part
from genreg_hmm.learning import Parameters

LEAST = 0.01  # probability of a start or a transition that is told
MOST = 6  # transitions and symbols told of each state


def described(config: Config, parameters: Parameters) -> str:
    """One line for the starts, and three for each state: its transitions, its end, its emissions."""
    lines = [f"start -> {_likeliest(parameters.start, [f'state {k}' for k in range(parameters.states)])}"]
    for state in range(parameters.states):
        lines.append(f"state {state}")
        row = parameters.transition[state]
        kept = 1.0 if parameters.end is None else 1 - float(parameters.end[state])
        names = [f"state {k}" if k != state else "itself" for k in range(parameters.states)]
        ends = "" if parameters.end is None else f", the end {_share(float(parameters.end[state]))}"
        lines.append(f"  -> {_likeliest(row * kept, names)}{ends}")
        lines += [f"  {line}" for line in emissions(config, parameters, state)]
    return "\n".join(lines)


def emissions(config: Config, parameters: Parameters, state: int, most: int = MOST) -> list[str]:
    """What a state emits: a line per column, of symbols the ``most`` likeliest."""
    tensors = zip(config.parts, (one.tensors() for one in parameters.emissions), strict=True)
    return [line for part, held in tensors for line in _emitted(part, held, state, most)]


def _emitted(part: Part, tensors: dict[str, Array], state: int, most: int) -> list[str]:
    """A line for each column of one emission."""
    if part.kind in ("categorical", "text"):
        (column,) = part.columns
        symbols = [repr(value) if isinstance(value, str) else str(value) for value in column.values]
        return [f"{column.name}: {_likeliest(tensors['probability'][state], symbols, most)}"]
    if part.kind == "poisson":
        return [
            f"{c.name}: {rate:.4g} on average" for c, rate in zip(part.columns, tensors["rate"][state], strict=True)
        ]
    variance = tensors["variance"][state] if "variance" in tensors else tensors["covariance"][state].diagonal()
    numbers = zip(part.columns, tensors["mean"][state], variance**0.5, strict=True)
    return [f"{column.name}: {mean:.4g} ± {deviation:.3g}" for column, mean, deviation in numbers]


def _likeliest(p: Array, names: list[str], most: int = MOST) -> str:
    """The likeliest above LEAST, falling; the likeliest one in any case."""
    order = [int(at) for at in (-p).argsort(kind="stable")]
    chosen = [at for at in order if p[at] >= LEAST] or order[:1]
    more = f", and {len(chosen) - most} more" if len(chosen) > most else ""
    return ", ".join(f"{names[at]} {_share(float(p[at]))}" for at in chosen[:most]) + more


def _share(p: float) -> str:
    """A probability in three digits, such as 0.95 or 0.00217."""
    return f"{p:.3g}"
