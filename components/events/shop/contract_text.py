"""The shop's dataset contract, commented for someone who writes their own."""

CONTRACT = """\
# The generated shop's promise about its event log. Copy it, and change it to your own tables.
schema: rankgate/dataset/v1
name: demo-shop
owner: home-feed team
description: >
  Home feed of a generated shop, ten weeks from 2026-03-01. Nobody in it exists.

tables:
  events:
    path: [events/*.parquet]     # one file for each week of arrival
  users:
    path: [users.parquet]
  items:
    path: [items.parquet]        # columns are called here as rankgate calls them: no `columns` needed

# What each event is worth to a ranking. A name that is not listed goes to quarantine.
events:
  impression: {role: impression}
  click: {gain: 1}
  add_to_cart: {gain: 2}
  purchase: {gain: 4}

attributes:
  users:
    # segment: measured, never a feature. sensitive: the same, and features are tested for being its proxy.
    country: {role: segment, intersect: [gender]}
    age_band: {role: sensitive}
    gender: {role: sensitive}
    plan: {role: feature}
    tenure_days: {role: feature, type: number}   # when the log starts; 0 for who joined later
  items:
    category: {role: feature}
    price: {role: feature, type: number}
    provider: {role: segment}                    # providers' exposure is measured; who provides is no feature
  events:
    device: {role: context}
    policy: {role: ignore}                       # how the list was made: `ranked` or `explore` (at random)

item:
  category: category
  provider: provider
  price: price
  available_from: launched_at

# Lists were logged: evaluation re-ranks what was shown, and what followed within a day is the label.
requests:
  mode: logged
  attribution: 24h

bucket: hour                     # features see what had happened, and had arrived, before the hour began
as_of: "2026-05-10T00:00:00Z"    # when the log was exported; leave it out for "now"
freshness: 2d
# Users who refused leave no row behind, nor do those whom the users table does not know.
consent: {column: consent, table: users, values: [granted]}
tolerance: {rejected_share: 0.02}

split:
  test: {days: 14}               # long enough for the small groups to be seen
  validation: {days: 7}

evaluation:
  cutoffs: [3, 5, 10]            # of 12 shown
"""
