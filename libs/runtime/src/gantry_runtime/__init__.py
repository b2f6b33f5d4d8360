"""What every service's process needs: settings, logs, metrics, health, drain and supervision."""
