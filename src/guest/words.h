/* Argument lists that are too long for one ssh command: kept by one session, run by the next.
 * Never leaves a list behind that was run. */
#pragma once

/** guest_keep_main: `guest keep ID`: stdin, coded words one a line, becomes the list @arguments[0]. Returns: exit
 * status.
 */
int guest_keep_main (char **arguments);

/** guest_words_take: Returns: (transfer full): the words of the list @id, NULL-ended, which is gone then; NULL with
 * errno. */
char **guest_words_take (const char *id);

/** guest_words_split: Returns: (transfer full): @text, which is changed, at its line ends; NULL with errno. */
char **guest_words_split (char *text);
