"""What FILE may hold: a module for each section, under the section's name, and what they share."""
