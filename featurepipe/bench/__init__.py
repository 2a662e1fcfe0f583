"""What `bin/bench` measures: each figure beside a reference that others wrote, on rendered faces and seeded weights."""
