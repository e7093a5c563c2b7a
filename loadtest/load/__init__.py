"""What makes the load: a light client, crews of them, and crews in processes of their own."""
