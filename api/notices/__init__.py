"""Telling people: the text of a notice, its shapes, mail and webhooks, and the sender that empties the outbox.

That somebody is to be told is decided in `engine/notice.py`, in the ticket's own commit; nothing here can hold up a ticket.
"""
