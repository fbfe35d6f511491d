"""Bring a table up to date with its raw text: plan, build, diff, publish, report; backfills too.

`sbert.refresh.run.refresh` does it all (exported as `sbert.refresh_table`). Its parts are `plan` (what has to be built),
`build` and `stream` (one split at a time), `table_diff` (what joins and leaves), `publish` (checks and the commit) and
`refresh_report`. A caller that wants a part done elsewhere passes its own `steps`. The guide is `README.md`.
"""
