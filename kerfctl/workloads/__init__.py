"""Objects that make pods: which pods their controllers would make. Pure: objects in, pods or "not read" out.

It belongs here if a controller of Kubernetes, or of a project that people run beside it, decides it. What becomes of
the pods never does: `kerfctl.admission` asks the webhook; `kerfctl.candidates` and the scheduler's own code place them.
"""
