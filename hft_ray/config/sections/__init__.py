"""What FILE may hold: one module for each section, and what sections share."""
