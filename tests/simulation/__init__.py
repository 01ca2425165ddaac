"""Deterministic simulation of everything between the kernel's requests and Procore's answers.

    history (steps) ─▶ player ─▶ kernel model ─▶ the product's handlers, view, journal, scheduler, tree, client
                         │                           │ files in memory (disk.py)   │ requests (network.py)
                         ▼                           ▼                             ▼
                       model   ◀── compared ──▶  what programs see           the sandbox, in this process

One seed decides everything: the steps, the order of ready tasks, latencies, faults and the moment of death. Time is
virtual, so hours cost milliseconds. `python -m tests.simulation --help` says how to play, replay and shrink.
"""
