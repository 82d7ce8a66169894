"""Result rows in, tables of numbers out: no text, no markup."""
