/* ELF headers as in elf(5), read with bounds.
 * Never follows an offset outside the given bytes. */
#include "intake/kernel-elf.h"

#include <elf.h>
#include <string.h>

#include "common/error.h"

#define MAX_SEGMENTS 64
#define MAX_SECTIONS 4096
#define MAX_DEPENDS 64
#define BANNER "Linux version "

static gboolean
fits (guint64 offset, guint64 size, gsize length)
{
  return offset <= length && size <= length - offset;
}

static gboolean
read_header (const guint8 *data, gsize length, Elf64_Ehdr *header, GError **error)
{
  if (length < sizeof *header)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "not an ELF file: only %" G_GSIZE_FORMAT " bytes",
                             length);
  memcpy (header, data, sizeof *header);
  if (memcmp (header->e_ident, ELFMAG, SELFMAG) != 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "not an ELF file");
  if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB
      || header->e_machine != EM_X86_64)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "ELF file for machine %u, not x86-64",
                             header->e_machine);
  return TRUE;
}

gboolean
banger_elf_check_kernel (const guint8 *data, gsize length, GError **error)
{
  Elf64_Ehdr header;
  guint n_loaded = 0;
  if (!read_header (data, length, &header, error))
    return FALSE;
  if ((header.e_type != ET_EXEC && header.e_type != ET_DYN) || header.e_entry == 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "ELF file of type %u is not a kernel", header.e_type);
  if (header.e_phentsize != sizeof (Elf64_Phdr) || header.e_phnum == 0 || header.e_phnum > MAX_SEGMENTS
      || !fits (header.e_phoff, header.e_phnum * sizeof (Elf64_Phdr), length))
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the kernel's program headers are damaged");

  for (guint i = 0; i < header.e_phnum; i++) {
    Elf64_Phdr segment;
    memcpy (&segment, data + header.e_phoff + i * sizeof segment, sizeof segment);
    if (segment.p_type != PT_LOAD)
      continue;
    n_loaded++;
    if (!fits (segment.p_offset, segment.p_filesz, length) || segment.p_filesz > segment.p_memsz)
      return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the kernel is cut short: segment %u ends after it",
                               i);
  }
  if (n_loaded == 0)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the kernel has nothing to load");
  return TRUE;
}

char *
banger_elf_kernel_version (const guint8 *data, gsize length)
{
  const guint8 *at = data;
  while ((at = memmem (at, length - (gsize)(at - data), BANNER, strlen (BANNER)))) {
    const char *word = (const char *)at + strlen (BANNER);
    gsize left = length - (gsize)((const guint8 *)word - data), n = 0;
    while (n < left && n < 64 && (g_ascii_isalnum (word[n]) || strchr ("._+~-", word[n] ? word[n] : ' ')))
      n++;
    /* The same words are the head of a format string elsewhere. */
    if (n > 0 && n < left && n < 64 && word[n] == ' ' && g_ascii_isdigit (word[0]))
      return g_strndup (word, n);
    at += strlen (BANNER);
  }
  return NULL;
}

static gboolean
read_section (const guint8 *data, gsize length, const Elf64_Ehdr *header, guint index, Elf64_Shdr *section)
{
  guint64 offset = header->e_shoff + (guint64)index * sizeof *section;
  if (header->e_shentsize != sizeof *section || index >= header->e_shnum || header->e_shnum > MAX_SECTIONS
      || offset < header->e_shoff || !fits (offset, sizeof *section, length))
    return FALSE;
  memcpy (section, data + offset, sizeof *section);
  return section->sh_type == SHT_NOBITS || fits (section->sh_offset, section->sh_size, length);
}

static gboolean
find_section (const guint8 *data, gsize length, const char *name, Elf64_Shdr *section, GError **error)
{
  Elf64_Ehdr header;
  Elf64_Shdr names;
  if (!read_header (data, length, &header, error))
    return FALSE;
  if (header.e_type != ET_REL || !read_section (data, length, &header, header.e_shstrndx, &names)
      || names.sh_type != SHT_STRTAB)
    return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "not a kernel module");
  for (guint i = 0; i < header.e_shnum; i++) {
    if (!read_section (data, length, &header, i, section))
      return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the module's sections are damaged");
    if (section->sh_type == SHT_PROGBITS && fits (section->sh_name, strlen (name) + 1, names.sh_size)
        && memcmp (data + names.sh_offset + section->sh_name, name, strlen (name) + 1) == 0)
      return TRUE;
  }
  return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the module has no section %s", name);
}

static void
read_entry (const char *entry, BangerModuleInfo *info)
{
  if (g_str_has_prefix (entry, "depends=") && !info->depends && entry[8] != '\0')
    info->depends = g_strsplit (entry + 8, ",", MAX_DEPENDS);
  else if (g_str_has_prefix (entry, "vermagic=") && !info->version)
    info->version = g_strndup (entry + 9, strcspn (entry + 9, " "));
}

gboolean
banger_elf_read_module (const guint8 *data, gsize length, BangerModuleInfo *ret_info, GError **error)
{
  Elf64_Shdr section;
  g_auto (BangerModuleInfo) info = { 0 };
  if (!find_section (data, length, ".modinfo", &section, error))
    return FALSE;
  const char *at = (const char *)data + section.sh_offset, *end = at + section.sh_size;
  while (at < end) {
    gsize n = strnlen (at, (gsize)(end - at));
    if (at + n == end)
      return banger_set_error (error, BANGER_ERROR_INVALID_KERNEL, "the module's .modinfo does not end");
    read_entry (at, &info);
    at += n + 1;
  }
  if (!info.depends)
    info.depends = g_new0 (char *, 1);
  *ret_info = info;
  memset (&info, 0, sizeof info);
  return TRUE;
}

void
banger_module_info_clear (BangerModuleInfo *info)
{
  g_clear_pointer (&info->depends, g_strfreev);
  g_clear_pointer (&info->version, g_free);
}
