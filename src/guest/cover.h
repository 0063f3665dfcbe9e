/* Folders of the image that cannot be written: a copy in memory lies over them while the machine runs.
 * Used by the start-up code.
 * Never changes the image's own. */
#pragma once

/** guest_cover_if_unwritable: @folder, if it is there and takes no new file. What failed is on the console. */
void guest_cover_if_unwritable (const char *folder);
