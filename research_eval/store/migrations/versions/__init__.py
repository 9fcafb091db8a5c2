"""One file for each schema version after which the tables changed, never edited later."""
