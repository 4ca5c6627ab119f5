"""``genreg completion``: the script that lets a shell complete.

Click's own scripts do not serve: bash breaks their words at ``:`` and ``=``, of which samplers and settings are made,
zsh puts a space after ``psi=``, and fish cuts their answers at commas. The protocol is told in ``complete.py``.
"""

from __future__ import annotations

import click

BASH = r"""# source <(genreg completion bash)
_genreg() {
    local kind value help
    COMPREPLY=()
    while IFS=$'\t' read -r kind value help; do
        case $kind in
            word) COMPREPLY+=("$value") ;;
            part) COMPREPLY+=("$value"); compopt -o nospace ;;
            file) compopt -o bashdefault -o default ;;
            dir) compopt -o dirnames ;;
        esac
    done < <(export _GENREG_COMPLETE=bash COMP_WORDBREAKS COMP_LINE="${COMP_LINE:0:COMP_POINT}"; "$1" 2>/dev/null)
}
complete -F _genreg genreg
"""
ZSH = r"""#compdef genreg
# source <(genreg completion zsh), or keep it as _genreg in a folder of $fpath
_genreg() {
    local line
    local -a fields whole parts
    for line in "${(@f)$(_GENREG_COMPLETE=zsh "${words[1]}" "${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
        fields=("${(@s:	:)line}")
        case ${fields[1]} in
            word) whole+=("${fields[2]//:/\\:}:${fields[3]}") ;;
            part) parts+=("${fields[2]//:/\\:}:${fields[3]}") ;;
            file) [[ $PREFIX == --*=* ]] && compset -P '*='; _files ;;
            dir) _files -/ ;;
        esac
    done
    (( $#whole )) && _describe -t values genreg whole
    (( $#parts )) && _describe -t values genreg parts -S ''
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _genreg "$@"
else
    compdef _genreg genreg
fi
"""
FISH = r"""# genreg completion fish | source, or keep it as ~/.config/fish/completions/genreg.fish
function __genreg_complete
    set -l current (commandline -ct)
    set -l words (commandline -opc) "$current"
    for line in (env _GENREG_COMPLETE=fish $words 2>/dev/null)
        set -l fields (string split \t -- $line)
        switch $fields[1]
            case file
                __fish_complete_path "$current"
            case dir
                __fish_complete_directories "$current"
            case '*'
                printf '%s\t%s\n' $fields[2] "$fields[3]"
        end
    end
end
complete --command genreg --no-files --arguments '(__genreg_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


@click.command("completion")
@click.argument("shell", type=click.Choice(list(SCRIPTS)))
def command(shell: str) -> None:
    """Print the script that lets SHELL complete: put `source <(genreg completion bash)` into ~/.bashrc.

    For zsh the same in ~/.zshrc, after compinit; for fish: genreg completion fish | source.
    """
    click.echo(SCRIPTS[shell], nl=False)
