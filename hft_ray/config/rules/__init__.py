"""What of FILE must fit together: rules over several sections, arms and the search space."""
