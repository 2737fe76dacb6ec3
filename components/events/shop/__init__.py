"""A shop that does not exist: the event log that `rankgate demo` runs on, and what it is made of.

Flow: `world` (who shops, what is sold, who likes what) -> `traffic` (who asks when) -> `behaviour` (what the shop's old
ranker shows and what people do) -> `dirt` (what goes wrong on the way to a log) -> `generate` (files, contract).

What is simulated, 2026-03-01 to 2026-05-09:

- **People.** Each has a taste over 12 categories (a few loved, most ignored), a style (a direction in five hidden
  dimensions that items share, so that co-visitation knows more than categories do), a usual price level and a
  sensitivity to it. Activity is heavy-tailed; one in eight joins during the log. Country, age band and gender are drawn
  independently of all that: no group is served worse by nature, so an honest gate has nothing to find. `plan` raises
  the chance that a cart is paid. A few refuse consent; a few occur only in the log, so that nobody
  knows what they agreed to; a few are bots.
- **Items.** Quality is half the provider's, half their own. Interest in each drifts over days (a slow autoregressive
  trend), is higher when new, and weekends favour some categories. Most are older than the log, some trickle in, two
  collections are launched: in the middle, and nineteen days before the end. Ids are shuffled: they carry no meaning. A few
  are no longer in the items table.
- **Requests.** Sessions of one or more requests follow a daily curve and a weekly one (weekends busier and more mobile),
  with slow growth: a drift test that compares two arbitrary days will cry wolf.
- **Logging policy.** Twelve items are drawn without replacement in proportion to exp(score) (Plackett-Luce), the score
  being decayed popularity, the user's past clicks by category, and a boost for new items, as a simple production ranker
  would have them the night before. A fifth of the requests (`policy` = `explore`) draw uniformly. Both make the order
  random enough for offline re-ranking to mean something; without it, evaluation would reward imitating the logger.
- **Clicks.** Position-based model: P(click) = P(examined | position, device) x P(liked). A click may become a cart, a
  cart a purchase, mostly within minutes, sometimes days later. Some outcomes come from search and have no request.
- **What goes wrong.** Requests that arrive hours late (`ingested_at`), files cut by arrival rather than by event time,
  and about 0.5 % broken rows (`dirt`).
- The log ends as a real export does: what had not arrived by `as_of` is not in it.

The same seed and scale give the same bytes.
"""

from components.events.shop.generate import generate_shop

__all__ = ["generate_shop"]
