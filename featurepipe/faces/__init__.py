"""Second stage: photos in, face boxes and crops out."""
