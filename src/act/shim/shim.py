# What kindling starts for a Python task. The work is in a module beside it, which Python keeps compiled.

# Not where a process that the task starts imports this file again.
if __name__ == "__main__":
    import kindling_shim

    kindling_shim.run(__file__)
