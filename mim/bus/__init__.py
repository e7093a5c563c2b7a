"""Topics between the places where something happens and the sockets that must hear of it."""
