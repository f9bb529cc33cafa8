"""The planner: joint packing of the pending set with OR-tools CP-SAT, and its independent checker."""
