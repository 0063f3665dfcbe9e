/* The first process: from the kernel to the image's init.
 * Never returns: it becomes the init, or ends the machine. */
#pragma once

void guest_start (char **environment) __attribute__ ((noreturn));
