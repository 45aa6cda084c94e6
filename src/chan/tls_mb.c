/* SPDX-License-Identifier: MIT */
/*
 * AES-GCM by Intel's IPsec-MB, where it has VAES.
 *
 * The library is found at run time; its header at compile time (else
 * tls_mb_none.c).  Its table of functions is read once for each key and let go;
 * what it points to are functions of key and context alone.  The table's shape
 * belongs to a version, so another one is as good as none.
 */
#include "chan/tls_cipher.h"

#include <dlfcn.h>
#include <intel-ipsec-mb.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY		"libIPSec_MB.so.1"
#define NEEDS		(IMB_FEATURE_VAES | IMB_FEATURE_VPCLMULQDQ | \
			 IMB_FEATURE_AVX512F)
#define ALIGNED		64

struct functions {
	aes_gcm_pre_t		 pre;
	aes_gcm_init_t		 init;
	aes_gcm_enc_dec_update_t update;
	aes_gcm_enc_dec_finalize_t finalize;
	aes_gcm_enc_dec_t	 open;
};

struct mb_cipher {
	struct ferry_cipher base;
	void		*library;
	struct functions f;
	struct gcm_key_data key __attribute__((aligned(ALIGNED)));
};

static int mb_seal(struct ferry_cipher *c, const struct ferry_cipher_head *h,
		   const struct iovec *iov, int n, uint8_t *out)
{
	struct mb_cipher *m = (struct mb_cipher *)c;
	struct gcm_context_data context;

	m->f.init(&m->key, &context, h->nonce, h->plain, h->plain_bytes);
	for (int i = 0; i < n; i++) {
		m->f.update(&m->key, &context, out, iov[i].iov_base,
			    iov[i].iov_len);
		out += iov[i].iov_len;
	}
	m->f.finalize(&m->key, &context, out, FERRY_CIPHER_TAG);
	explicit_bzero(&context, sizeof(context));
	return 0;
}

static int mb_open(struct ferry_cipher *c, const struct ferry_cipher_head *h,
		   const uint8_t *in, size_t bytes, uint8_t *out)
{
	struct mb_cipher *m = (struct mb_cipher *)c;
	struct gcm_context_data context;
	uint8_t tag[FERRY_CIPHER_TAG];

	m->f.open(&m->key, &context, out, in, bytes, h->nonce, h->plain,
		  h->plain_bytes, tag, sizeof(tag));
	explicit_bzero(&context, sizeof(context));
	return gnutls_memcmp(tag, in + bytes, sizeof(tag)) ?
	       GNUTLS_E_DECRYPTION_FAILED : 0;
}

static void mb_free(struct ferry_cipher *c)
{
	struct mb_cipher *m = (struct mb_cipher *)c;

	explicit_bzero(&m->key, sizeof(m->key));
	if (m->library)
		dlclose(m->library);
	free(m);
}

static const struct ferry_cipher_ops mb_ops = {
	.maker = "IPsec-MB",
	.seal = mb_seal,
	.open = mb_open,
	.free = mb_free,
};

static bool choose(struct functions *f, const IMB_MGR *table,
		   gnutls_cipher_algorithm_t algorithm)
{
	if ((table->features & NEEDS) != NEEDS)
		return false;
	if (algorithm == GNUTLS_CIPHER_AES_128_GCM)
		*f = (struct functions){
			table->gcm128_pre, table->gcm128_init,
			table->gcm128_enc_update, table->gcm128_enc_finalize,
			table->gcm128_dec,
		};
	else
		*f = (struct functions){
			table->gcm256_pre, table->gcm256_init,
			table->gcm256_enc_update, table->gcm256_enc_finalize,
			table->gcm256_dec,
		};
	return true;
}

static bool look_up(struct mb_cipher *m, gnutls_cipher_algorithm_t algorithm)
{
	unsigned (*version)(void);
	IMB_MGR *(*alloc)(uint64_t), *table;
	void (*init)(IMB_MGR *, IMB_ARCH *), (*release)(IMB_MGR *);
	bool good;

	m->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!m->library)
		return false;
	*(void **)&version = dlsym(m->library, "imb_get_version");
	*(void **)&alloc = dlsym(m->library, "alloc_mb_mgr");
	*(void **)&init = dlsym(m->library, "init_mb_mgr_auto");
	*(void **)&release = dlsym(m->library, "free_mb_mgr");
	if (!version || !alloc || !init || !release ||
	    version() >> 8 != IMB_VERSION_NUM >> 8)
		return false;
	table = alloc(0);
	if (!table)
		return false;
	init(table, NULL);
	good = choose(&m->f, table, algorithm);
	release(table);
	return good;
}

struct ferry_cipher *ferry_cipher_new_mb(gnutls_cipher_algorithm_t algorithm,
					 const gnutls_datum_t *key)
{
	struct mb_cipher *m;

	if (algorithm != GNUTLS_CIPHER_AES_128_GCM &&
	    algorithm != GNUTLS_CIPHER_AES_256_GCM)
		return NULL;
	m = aligned_alloc(ALIGNED, sizeof(*m));
	if (!m)
		return NULL;
	memset(m, 0, sizeof(*m));
	m->base.ops = &mb_ops;
	if (!look_up(m, algorithm) ||
	    key->size != gnutls_cipher_get_key_size(algorithm)) {
		mb_free(&m->base);
		return NULL;
	}
	m->f.pre(key->data, &m->key);
	return &m->base;
}
