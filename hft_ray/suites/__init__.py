"""General evaluations that come with the package and need no network: data only, see README.md."""
