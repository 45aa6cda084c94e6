# SPDX-License-Identifier: MIT
# Completion of ferry's command line for bash.  It asks the command itself, so
# it knows what is installed: commands, their options, parameters and their
# values, and the VMs that run.

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

_ferry_params() {
	"$1" params 2>/dev/null | sed -n 's/^\([a-z][a-z0-9-]*=\).*/\1/p'
}

# Of one parameter: the line after the next, where that is a list of words.
_ferry_values() {
	"$1" params 2>/dev/null |
		sed -n "/^$2=/{n;n;s/;.*//;/[0-9] to [0-9]/d;/^    a text$/d;s/,//g;p;}"
}

# What may follow an option, or nothing.
_ferry_argument() {
	case $2 in
	--set) _ferry_params "$1" ;;
	--listen|--path) echo tcp: unix: ;;
	--incoming) echo tcp: unix: file: fd: defer ;;
	--bulk-state) echo NAME,size=100M,rate=400M ;;
	--serial) echo stdio null file: unix: ;;
	--hugepages) echo 2M ;;
	--as) echo auto stream return preempt capture ;;
	esac
}

# Bash makes words of "--set", "=", NAME, "=" and VALUE; sets $option to the
# option that the word at hand belongs to, and $param to NAME when it is a
# value.
_ferry_where() {
	local i=$((COMP_CWORD - 1))

	option='' param=''
	[ "${COMP_WORDS[i]}" = = ] && i=$((i - 1))
	case ${COMP_WORDS[i]} in
	-*) option=${COMP_WORDS[i]}; return ;;
	esac
	[ "${COMP_WORDS[i + 1]}" = = ] || return
	[ "${COMP_WORDS[i - 1]}" = = ] && i=$((i - 1))
	case ${COMP_WORDS[i - 1]} in
	--set|-s|-S) option=--set param=${COMP_WORDS[COMP_CWORD - 2]} ;;
	esac
}

# How many words that are no options stand before the one at hand, behind the
# command.
_ferry_nth() {
	local i=2 n=0 help word

	help=$("$1" "$2" --help 2>/dev/null)
	while [ "$i" -lt "$COMP_CWORD" ]; do
		word=${COMP_WORDS[i]}
		i=$((i + 1))
		case $word in
		-*)	# --limit = 100M, --limit 100M or -l 100M
			if [ "${COMP_WORDS[i]}" = = ]; then
				i=$((i + 2))
			elif grep -q -e " $word=" -e "^ *$word, --[a-z-]*=" \
					<<<"$help"; then
				i=$((i + 1))
			fi
			# --set NAME = VALUE
			[ "${COMP_WORDS[i]}" != = ] || i=$((i + 2)) ;;
		*)	n=$((n + 1)) ;;
		esac
	done
	echo "$n"
}

# What may stand where no option does.
_ferry_operand() {
	case $2,$3 in
	help,0) _ferry_commands "$1" ;;
	run,*|list,*|doctor,*|params,*|dump,*|tls-init,*|vhost-check,*|help,*) ;;
	serve,*|park,*) echo tcp: unix: ;;
	rescue,0) echo dump merge ;;
	rescue,1) [ "${COMP_WORDS[2]}" != dump ] || _ferry_vms "$1" ;;
	*,0) _ferry_vms "$1" ;;
	recover,1) echo tcp: unix: ;;
	migrate,1) _ferry_vms "$1"; echo tcp: unix: file: ;;
	esac
}

_ferry_words() {
	local ferry=$1 command=$2 word=$3 option param

	_ferry_where
	case $option in -s|-S) option=--set ;; esac
	if [ -n "$param" ]; then
		_ferry_values "$ferry" "$param"
	elif [ "${word:0:1}" = - ]; then
		_ferry_options "$ferry" "$command"
	elif [ -n "$option" ] && "$ferry" "$command" --help |
			grep -q -e "$option="; then
		_ferry_argument "$ferry" "$option"
	else
		_ferry_operand "$ferry" "$command" \
			"$(_ferry_nth "$ferry" "$command")"
	fi
}

_ferry() {
	local ferry=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]} words

	[ "$word" != = ] || word=
	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		words=$(_ferry_commands "$ferry")
	else
		words=$(_ferry_words "$ferry" "${COMP_WORDS[1]}" "$word")
		compopt -o default 2>/dev/null
		case $words in
		*[=:]*) compopt -o nospace 2>/dev/null ;;
		esac
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _ferry ferry
