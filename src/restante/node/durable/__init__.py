"""What must outlive a crash: lock, pool, archive, outbox; and how it is put back."""
