/* The scripts that shells load: each asks `banger __complete` and shows its answer.
 * Printed by the completion command and installed by the build.
 * Never holds the name of a command or option. */
#include "cli/complete.h"

#include <string.h>

static const char bash[]
    = "# bash completion for banger; made by `banger completion bash`\n"
      "_banger() {\n"
      "  local cur words=() word line i\n"
      "  # bash splits --option=value and NAME:PATH: put them together again\n"
      "  for ((i = 1; i <= COMP_CWORD; i++)); do\n"
      "    word=${COMP_WORDS[i]}\n"
      "    if [[ ${#words[@]} -gt 0 && ($word == = && ${words[-1]} == --* || $word == :) ]]; then\n"
      "      words[-1]+=$word\n"
      "      if ((i < COMP_CWORD)); then words[-1]+=${COMP_WORDS[++i]}; fi\n"
      "    else\n"
      "      words+=(\"$word\")\n"
      "    fi\n"
      "  done\n"
      "  cur=${words[-1]}\n"
      "  COMPREPLY=()\n"
      "  while IFS= read -r line; do\n"
      "    case $line in\n"
      "      :files) mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- \"${cur#--*=}\"); "
      "compopt -o filenames ;;\n"
      "      :directories) mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -d -- "
      "\"${cur#--*=}\"); compopt -o filenames ;;\n"
      "      *) line=${line%%$'\\t'*}; COMPREPLY+=(\"${line#--*=}\")\n"
      "        [[ $line != *: ]] || compopt -o nospace ;;\n"
      "    esac\n"
      "  done < <(\"${COMP_WORDS[0]}\" __complete \"${words[@]}\" 2>/dev/null)\n"
      "}\n"
      "complete -F _banger banger\n";

static const char zsh[]
    = "#compdef banger\n"
      "# zsh completion for banger; made by `banger completion zsh`\n"
      "_banger() {\n"
      "  local line word\n"
      "  local -a candidates\n"
      "  for line in \"${(@f)$(\"${words[1]}\" __complete \"${(@)words[2,CURRENT]}\" 2>/dev/null)}\"; do\n"
      "    case $line in\n"
      "      '') ;;\n"
      "      :files) _files ;;\n"
      "      :directories) _files -/ ;;\n"
      "      *) word=${line%%$'\\t'*}; candidates+=(\"${word//:/\\\\:}:${line#*$'\\t'}\") ;;\n"
      "    esac\n"
      "  done\n"
      "  (( $#candidates )) && _describe banger candidates\n"
      "}\n"
      "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _banger \"$@\"; else compdef _banger banger; fi\n";

static const char fish[] = "# fish completion for banger; made by `banger completion fish`\n"
                           "function __banger_complete\n"
                           "  set -l words (commandline -opc) (commandline -ct)\n"
                           "  for line in (command $words[1] __complete $words[2..-1] 2>/dev/null)\n"
                           "    switch $line\n"
                           "      case ':files'\n"
                           "        __fish_complete_path (commandline -ct)\n"
                           "      case ':directories'\n"
                           "        __fish_complete_directories (commandline -ct)\n"
                           "      case '*'\n"
                           "        echo $line\n"
                           "    end\n"
                           "  end\n"
                           "end\n"
                           "complete -c banger -f -a '(__banger_complete)'\n";

static const struct {
  const char *shell;
  const char *script;
} rows[] = { { "bash", bash }, { "zsh", zsh }, { "fish", fish } };

const char *
banger_completion_script (const char *shell)
{
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    if (strcmp (rows[i].shell, shell) == 0)
      return rows[i].script;
  return NULL;
}

const char *const *
banger_completion_shells (void)
{
  static const char *shells[G_N_ELEMENTS (rows) + 1];
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    shells[i] = rows[i].shell;
  return shells;
}
