"""What every part stands on: errors, files, progress, sentences, units."""
