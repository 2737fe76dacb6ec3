"""The reviewer's desk: a page on this machine where cards are read and decisions are signed."""
