"""People with phones: who sleep, wake, write and read; and what their phones note."""
