external_url 'https://gitlab.example.com'
gitaly['listen_addr'] = "127.0.0.1:8075"
gitaly['tls_listen_addr'] = "0.0.0.0:9999"
gitaly['certificate_path'] = "/etc/gitlab/ssl/cert.pem"
gitaly['key_path'] = "/etc/gitlab/ssl/key.pem"
gitaly['logging_level'] = 'debug'
git_data_dirs({
  'default' => { 'gitaly_address' => 'tls://gitaly-a.internal:9999' },
  'storage1' => { 'path' => '/mnt/gitlab/git-data' },
})
praefect['tls_listen_addr'] = '0.0.0.0:3305'
praefect['certificate_path'] = '/etc/gitlab/ssl/cert.pem'
praefect['key_path'] = '/etc/gitlab/ssl/key.pem'
praefect['virtual_storages'] = {
  'default' => {
    'nodes' => {
      'gitaly-1' => { 'address' => 'tls://gitaly-1.internal:9999', 'token' => 'TOP-SECRET' },
      'gitaly-2' => { 'address' => 'tls://gitaly-2.internal:9999', 'token' => 'TOP-SECRET' },
    }
  }
}
