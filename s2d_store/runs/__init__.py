"""What ran: settings, status, and the updates that training wrote back."""
