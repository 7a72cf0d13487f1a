"""The tasks that come with AgentSite: YAML files, and Python classes. See docs/adding-a-task.md."""
