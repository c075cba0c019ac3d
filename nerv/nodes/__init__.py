"""Nodes: tasks that steer the flow, one file each. A node is a TaskDef whose function returns an outcome
(nerv/outcomes.py); neither the scheduler nor the engine knows any of them.
"""
