"""The demonstration: the whole chain on 1,797 scanned digits, and the table that shows that its ends agree."""
