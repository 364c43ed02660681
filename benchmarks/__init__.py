"""What Tocsin costs: each module measures one thing on this machine; `python -m benchmarks` runs them all."""
