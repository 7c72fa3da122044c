-- Room on each page for the new version of a row that is written again, so that
-- the indexes need not hear of it: most writes change no column that is indexed.
-- It holds for pages that are filled from now on.
ALTER TABLE users SET (fillfactor = 80);
