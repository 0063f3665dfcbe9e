/* The program but for main(), so that tests can link it.
 * Never returns without having said what went wrong. */
#pragma once

/** banger_app_run: @argv: without the program's name. Returns: the exit status. */
int banger_app_run (const char *const *argv);
