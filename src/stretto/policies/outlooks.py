"""Arithmetic of outlooks: what asks cost alone, in sequence, side by side, and perhaps."""

from collections.abc import Iterable

from stretto.steps import Outlook, Quote, Span

__all__ = ["beside", "maybe", "of_ask", "one_of", "then"]


def of_ask(quote: Quote, longest: Quote | None = None) -> Outlook:
    """One ask: one call if it goes well; at worst the door's three attempts, of which each may cost its worst case.

    `longest` is the quote of the same ask with the longest texts that may come to stand in it. The most seconds are three times
    the expected ones: only a limit bounds how long a call may take.
    """
    worst = quote.worst if longest is None else max(quote.worst, longest.worst)
    return Outlook(
        Span(1, 1, 3),
        Span(0, quote.expected, 3 * worst),
        Span(0, quote.seconds, 3 * quote.seconds),
    )


def then(*parts: Outlook) -> Outlook:
    """One after the other."""
    total = Outlook()
    for part in parts:
        total = Outlook(total.calls + part.calls, total.usd + part.usd, total.seconds + part.seconds)
    return total


def beside(parts: Iterable[Outlook]) -> Outlook:
    """Side by side: calls and money add, the slowest sets the time."""
    parts = list(parts)
    total = then(*parts)
    seconds = Span(
        max((p.seconds.least for p in parts), default=0.0),
        max((p.seconds.expected for p in parts), default=0.0),
        max((p.seconds.most for p in parts), default=0.0),
    )
    return Outlook(total.calls, total.usd, seconds)


def maybe(part: Outlook, chance: float) -> Outlook:
    """With this chance; at least nothing, at most all of it."""

    def scaled(span: Span) -> Span:
        return Span(0, chance * span.expected, span.most)

    return Outlook(scaled(part.calls), scaled(part.usd), scaled(part.seconds))


def one_of(parts: Iterable[tuple[float, Outlook]]) -> Outlook:
    """One of these, each with its chance: at least the least of them, at most the most. Nothing where there are none."""
    drawn = list(parts)
    if not drawn:
        return Outlook()

    def mixed(spans: list[Span]) -> Span:
        expected = sum(chance * span.expected for (chance, _), span in zip(drawn, spans, strict=True))
        return Span(min(s.least for s in spans), expected, max(s.most for s in spans))

    outlooks = [part for _, part in drawn]
    return Outlook(
        mixed([o.calls for o in outlooks]),
        mixed([o.usd for o in outlooks]),
        mixed([o.seconds for o in outlooks]),
    )
