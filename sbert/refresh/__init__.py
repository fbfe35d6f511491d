"""A refresh: what is asked for (`job`), what is to be done (`plan`), a split at a time (`build`, `stream`), what joins and
leaves the table (`settle`, `guard`), the commit (`publish`), and what is told of it (`report`, `estimate`, `metrics`,
`trends`).
"""
