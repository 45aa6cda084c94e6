# SPDX-License-Identifier: MIT
# Completion of ferry's command line for bash.  It asks the command itself, so
# it knows what is installed: commands, their options, and the VMs that run.

_ferry_commands() {
	"$1" --help 2>/dev/null | sed -n 's/^  \([a-z][a-z-]*\)  .*/\1/p'
}

_ferry_options() {
	"$1" "$2" --help 2>/dev/null |
		sed -n 's/^ \{2,6\}\(-., \)\{0,1\} *\(--[a-z][a-z-]*=\{0,1\}\).*/\2/p'
}

_ferry_vms() {
	"$1" list --json 2>/dev/null |
		grep -o '"name": *"[^"]*"' | sed 's/.*"\([^"]*\)"$/\1/'
}

_ferry() {
	local ferry=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]} words
	local command=${COMP_WORDS[1]}

	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		words=$(_ferry_commands "$ferry")
	elif [ "${word:0:1}" = - ]; then
		words=$(_ferry_options "$ferry" "$command")
		compopt -o nospace 2>/dev/null
	else
		case $command in
		run|list|doctor) compopt -o default 2>/dev/null; return ;;
		esac
		words=$(_ferry_vms "$ferry")
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _ferry ferry
