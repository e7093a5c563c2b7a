"""Postgres and nothing else: the pool, the migrations, the committer, and the queries by subject."""
